"""A producer as call centres have it: plain pika, nothing of Sidetone's.

    producer.py URL publish QUEUE < LINES      publishes each line of standard input as a message, as it stands
    producer.py URL consume QUEUE COUNT        prints COUNT messages, one a line, and acknowledges them
    producer.py URL drain QUEUE                prints all that lie there, each after its message_id, until none has come for a second
    producer.py URL call QUEUE < LINES         the same as publish, waits for an answer to each in a queue of its own (`reply_to`)
    producer.py URL count QUEUE                how many lie there
"""

import sys
import uuid

import pika


def main():
    url, what, queue, *more = sys.argv[1:]
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    if what == "publish":
        channel.queue_declare(queue=queue, durable=True)
        for line in sys.stdin.buffer:
            channel.basic_publish(exchange="", routing_key=queue, body=line.rstrip(b"\n"))
    elif what == "consume":
        left = int(more[0])
        for method, properties, body in channel.consume(queue, inactivity_timeout=60):
            if method is None:
                sys.exit(f"{left} messages did not come")
            channel.basic_ack(method.delivery_tag)
            reason = (properties.headers or {}).get("x-sidetone-reason", "")
            print(body.decode("utf-8", "replace"), reason, sep="\t", flush=True)
            left -= 1
            if left == 0:
                break
        channel.cancel()
    elif what == "drain":
        for method, properties, body in channel.consume(queue, inactivity_timeout=1):
            if method is None:
                break
            channel.basic_ack(method.delivery_tag)
            print(properties.message_id, body.decode("utf-8", "replace"), sep="\t", flush=True)
        channel.cancel()
    elif what == "call":
        answers = channel.queue_declare(queue="", exclusive=True).method.queue
        asked = {}
        for line in sys.stdin.buffer:
            correlation = str(uuid.uuid4())
            asked[correlation] = line
            properties = pika.BasicProperties(reply_to=answers, correlation_id=correlation)
            channel.basic_publish(exchange="", routing_key=queue, body=line.rstrip(b"\n"), properties=properties)
        for method, properties, body in channel.consume(answers, auto_ack=True, inactivity_timeout=60):
            if method is None:
                sys.exit(f"{len(asked)} answers did not come")
            del asked[properties.correlation_id]
            print(body.decode(), flush=True)
            if not asked:
                break
        channel.cancel()
    elif what == "count":
        print(channel.queue_declare(queue=queue, passive=True).method.message_count)
    connection.close()


main()

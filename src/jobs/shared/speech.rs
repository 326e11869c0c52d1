//! Texts that any node has spoken.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::speech::synthesis::SharedCache;
use crate::store::redis::Redis;

/// Audio in Redis, a key a text.
#[derive(Debug)]
pub struct SharedSpeech {
    redis: Redis,
    prefix: String,
    most_bytes: usize,
    keep: Duration,
}

impl SharedSpeech {
    /// Keys begin with `prefix`; files of more than `most_bytes` are neither put there nor taken; they are kept for `keep` after their
    /// last use.
    pub fn new(redis: Redis, prefix: &str, most_bytes: usize, keep: Duration) -> Self {
        Self { redis, prefix: prefix.to_owned(), most_bytes, keep }
    }

    fn key(&self, key: &str) -> String {
        format!("{}speech:{key}", self.prefix)
    }
}

impl SharedCache for SharedSpeech {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        async move {
            let name = self.key(key);
            // A range, and not all of it: somebody else may have put a gigabyte there.
            let mut range = redis::cmd("GETRANGE");
            range.arg(&name).arg(0).arg(self.most_bytes);
            let file: Vec<u8> = self.redis.ask(&range).await.ok()?;
            if file.is_empty() || file.len() > self.most_bytes {
                return None;
            }
            let (redis, keep) = (self.redis.clone(), self.keep.as_millis() as u64);
            // It is used, and stays. Nobody waits for that.
            tokio::spawn(async move {
                let mut stays = redis::cmd("PEXPIRE");
                let _: Result<i64, _> = redis.ask(stays.arg(name).arg(keep)).await;
            });
            Some(file)
        }
        .boxed()
    }

    fn put(&self, key: &str, file: Vec<u8>) {
        if file.len() > self.most_bytes {
            return;
        }
        let (redis, name, keep) = (self.redis.clone(), self.key(key), self.keep.as_millis() as u64);
        tokio::spawn(async move {
            let mut set = redis::cmd("SET");
            // What is not shared is spoken again elsewhere; why is counted, and told once.
            let _: Result<(), _> = redis.ask(set.arg(name).arg(file).arg("PX").arg(keep)).await;
        });
    }
}

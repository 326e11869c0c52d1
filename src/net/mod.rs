//! Sockets: where media comes in. The only `unsafe` of the house.

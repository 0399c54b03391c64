//! The reference city: a small but real liaison-notebook cloud, strict about everything a real city would refuse.
//!
//! It has its own certification authority, its own SQLite and its own pages, and speaks `docs/city-interface.md`. It is
//! not a mock of anything, and not meant for production: there is one process, one disk and nobody on duty.

pub mod accesslog;
pub mod audit;
pub mod ca;
pub mod city;
pub mod control;
pub mod est;
pub mod failure;
pub mod feed;
pub mod files;
pub mod gatewayapi;
pub mod linger;
pub mod pages;
pub mod portal;
pub mod problem;
pub mod secrets;
pub mod seed;
pub mod staff;
pub mod stats;
pub mod store;
pub mod times;
pub mod tls;
pub mod tuf;

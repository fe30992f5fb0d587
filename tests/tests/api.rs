//! The HTTP API over its own sockets: its server in this process, a pool against a broker, and an
//! observer whose table the test has made.

mod api {
    pub(crate) mod abuse;
    pub(crate) mod commands;
    pub(crate) mod daemon;
    pub(crate) mod devices;
    pub(crate) mod doors;
    pub(crate) mod reading;
    pub(crate) mod streams;
}

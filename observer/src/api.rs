//! EDGE: the HTTP API.

//! The fleet against a world that is late, loses things and says them twice.

mod naive;
mod rules;
mod world;

//! Counters of the program, one `u64` per CPU and cause in the `COUNTERS` map.

macro_rules! counters {
    ($($variant:ident = $name:literal, $lossy:literal, $doc:literal;)*) => {
        /// Why something was counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter {
            $(#[doc = $doc] $variant,)*
        }

        impl Counter {
            /// All counters, in the order of the map.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its stable name in metrics and in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether the table may be wrong after it grew, so that a snapshot is due.
            pub const fn is_loss(self) -> bool {
                match self { $(Self::$variant => $lossy,)* }
            }
        }
    };
}

counters! {
    RingState = "ring-full-state", true, "No room in the ring for a change of state.";
    RingDestroy = "ring-full-destroy", true, "No room in the ring for the end of a socket.";
    RingDescriptor = "ring-full-descriptor", true, "No room in the ring for an accept, connect or close.";
    RingProcess = "ring-full-process", true, "No room in the ring for a fork, exec or exit.";
    MarkFailed = "socket-mark-failed", true, "No room to mark a socket, or what a listener will accept, as watched.";
    WatchFull = "watch-map-full", true, "More watched processes than the map holds.";
    Unreadable = "kernel-read-failed", false, "A kernel pointer could not be followed from a descriptor to its socket.";
    ConnectNotRead = "connect-not-read", false, "An MQTT CONNECT went by, and its client id could not be read.";
    StackNotTaken = "stack-not-taken", false, "A call stack was wanted and could not be read, or the ring was too full for it.";
    RowTooLarge = "snapshot-row-refused", true, "The kernel refused a row of the snapshot.";
}

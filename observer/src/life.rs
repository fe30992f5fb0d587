//! EDGE: how the daemon lives among the others: the service manager, the other instance, the
//! privileges.

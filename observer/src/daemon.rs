//! EDGE: the privileged host daemon: joins the observer, the pool and the surfaces.

//! PURE. The pool's registry against the kernel's table.

//! The control plane. Nothing in it knows how an object reached it: sources feed one store, everything else reads the store.

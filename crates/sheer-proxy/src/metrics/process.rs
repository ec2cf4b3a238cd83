//! What the kernel says of the process itself, read at a scrape.

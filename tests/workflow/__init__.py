"""Jobs and keys on real servers, in this process."""

"""What runs in an operator's process: keys seen from outside, and the command line over them."""

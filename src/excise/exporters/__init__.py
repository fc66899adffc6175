"""One format each: a frozen Report in, text out. Nothing here reads a clock, a file or a host."""

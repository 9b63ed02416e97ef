"""What `mmdiff2in1 demo` shows: a light student, and the loop of the paper."""

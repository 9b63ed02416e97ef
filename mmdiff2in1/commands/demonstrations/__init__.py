"""The demonstrations of `mmdiff2in1 demo`: a light student, and the loop of the paper."""

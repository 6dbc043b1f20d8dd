"""The texts that units are made of: real Triton files, spliced into the output by name."""

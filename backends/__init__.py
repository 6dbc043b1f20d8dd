"""The backends that come with seqc: one folder each, found by walking this one."""

"""Views that follow from a recurrence and are no part of compiling it: implicit attention, stability."""

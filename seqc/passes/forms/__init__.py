"""The parallel forms of a recurrence: one file each, in the order in which they are preferred.

A form is a module with `MODE` (the name under which it is asked for) and `find(problem)`, which reads the structure of
a group of states and returns a function that builds the stage, or None where the form does not apply.  What stands
after `loop`, which always applies, is taken when it is asked for and never chosen.
"""

from seqc.passes.forms import chunk, delay, loop, max_plus, newton, scan

FORMS = (delay, chunk, scan, max_plus, loop, newton)

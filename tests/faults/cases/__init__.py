"""The faults, each as a function that does something terrible to a subject and leaves the repair to the next run.

A fault gives back the options of the recovering run: the same holder (a retry of the task), or none (the next scheduled
run, whose lease has then run out). It writes down what it saw to strike (:meth:`tests.faults.subject.Subject.needs`),
and may raise ``AssertionError`` for what must not happen on the way.
"""

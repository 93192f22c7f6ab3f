"""The Student: solves tasks in ReAct turns."""

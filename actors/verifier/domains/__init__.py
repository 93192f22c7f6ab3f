"""What grading takes in each domain; the heavy part runs in grader processes."""

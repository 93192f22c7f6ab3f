"""The Teacher: proposes tasks at the Student's frontier."""

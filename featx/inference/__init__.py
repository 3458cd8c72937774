"""A bundle at work: predict, judge, explain."""

"""What a paper measures: a subject, suites of parts, results that are kept under a key."""

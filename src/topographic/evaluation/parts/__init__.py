"""The parts that suites are made of."""

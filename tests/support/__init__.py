"""What the tests of several folders share: builders, twins, simulators, the real parts. No test lies here."""

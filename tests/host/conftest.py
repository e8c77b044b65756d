"""Its place lets the tests of every folder below import the builders beside it (`invented`, `builders`)."""

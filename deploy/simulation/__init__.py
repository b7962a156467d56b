"""A cluster in simulated time: the real scheduler and admission, with any number of replicas."""

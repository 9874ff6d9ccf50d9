"""Where stages run. An executor has two methods; the graph, the lock file and the order are nobody's but the scheduler's."""

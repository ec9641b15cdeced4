"""The parts of the loop by themselves: any scorer, any pool, or embeddings alone."""

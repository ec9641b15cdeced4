"""Ready embeddings: DataComp's, clip-retrieval's and our own are read, our own are written."""

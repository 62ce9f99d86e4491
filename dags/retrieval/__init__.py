"""
A small text-retrieval model: corpus, encoder, training, evaluation and index.

Plain functions over files and arrays, for the weekly workflow to call. Nothing here knows the scheduler or the
experiment tracker, and importing any module loads neither numpy nor scikit-learn: they are imported where they
are used, so that reading a workflow file stays cheap.

- ``retrieval.corpus``: ``build_corpus``, ``load_examples``, ``load_passages``
- ``retrieval.samples``: ``sample_embeddings``, rows for a table
- ``retrieval.model``: ``EmbeddingModel`` (``save``, ``load``, ``encode_queries``, ``encode_passages``),
  ``Hyperparameters``, ``untrained_model``
- ``retrieval.training``: ``train``
- ``retrieval.evaluation``: ``evaluate``, ``TfidfBaseline``
- ``retrieval.index``: ``build_index``, ``search``
"""

from __future__ import annotations

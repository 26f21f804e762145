"""Cohere's own client (package `cohere`, in an environment of its own) against a running server:
`python cohere_client.py KEY http://127.0.0.1:8000`.
"""

import json
import sys

import cohere

key, url = sys.argv[1:]
answer = cohere.ClientV2(api_key=key, base_url=url).rerank(
    model="bm25", query="green tea", documents=["coffee", "a green tea", "tea"], top_n=2
)
print(json.dumps([(one.index, one.relevance_score) for one in answer.results]))
assert [one.index for one in answer.results] == [1, 2]

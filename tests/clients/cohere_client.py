import json
import os

import cohere

url, key = os.environ["RIDGELINE_URL"], os.environ["RIDGELINE_KEY"]
documents = ["The tower is 330 metres tall.", "Butter and sugar", "Une tour à Paris 🗼"]

client = cohere.ClientV2(base_url=url, api_key=key)
ranked = client.rerank(model="ranker", query="How tall is the tower?", documents=documents, top_n=2)
older = cohere.Client(base_url=url, api_key=key).rerank(
    model="ranker", query="How tall is the tower?", documents=documents
)

print(
    json.dumps(
        {
            "ranked": [(result.index, result.relevance_score) for result in ranked.results],
            "older": [(result.index, result.relevance_score) for result in older.results],
        }
    )
)

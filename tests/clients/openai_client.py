import json
import os

import openai

client = openai.OpenAI(base_url=f"{os.environ['RIDGELINE_URL']}/v1", api_key=os.environ["RIDGELINE_KEY"])
texts = ["How tall is the tower?", "Une tour à Paris 🗼"]

answer = client.embeddings.create(model="all-MiniLM-L6-v2", input=texts)
as_lists = client.embeddings.create(model="all-MiniLM-L6-v2", input=texts, encoding_format="float")

print(
    json.dumps(
        {
            "models": [model.id for model in client.models.list()],
            "embeddings": [item.embedding for item in answer.data],
            "as_lists": [item.embedding for item in as_lists.data],
            "tokens": answer.usage.prompt_tokens,
        }
    )
)

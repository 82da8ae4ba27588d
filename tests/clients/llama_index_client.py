import json
import os

from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

url, key = os.environ["RIDGELINE_URL"], os.environ["RIDGELINE_KEY"]
texts = ["How tall is the tower?", "Une tour à Paris 🗼"]

by_openai = OpenAILikeEmbedding(model_name="all-MiniLM-L6-v2", api_base=f"{url}/v1", api_key=key)
by_tei = TextEmbeddingsInference(model_name="all-MiniLM-L6-v2", base_url=url, auth_token=key)

print(
    json.dumps(
        {
            "openai": by_openai.get_text_embedding_batch(texts),
            "openai_query": by_openai.get_query_embedding(texts[0]),
            "tei": by_tei.get_text_embedding_batch(texts),
            "tei_query": by_tei.get_query_embedding(texts[0]),
        }
    )
)

import json
import os

from huggingface_hub import InferenceClient
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from langchain_openai import OpenAIEmbeddings

url, key = os.environ["RIDGELINE_URL"], os.environ["RIDGELINE_KEY"]
texts = ["How tall is the tower?", "Une tour à Paris 🗼"]

# Without check_embedding_ctx_length=False it sends the token ids of OpenAI's tokenizer instead of texts.
by_openai = OpenAIEmbeddings(
    base_url=f"{url}/v1", api_key=key, model="all-MiniLM-L6-v2", check_embedding_ctx_length=False
)
# It takes names of the Hub alone; the client that it asks through takes URLs.
by_huggingface = HuggingFaceEndpointEmbeddings(huggingfacehub_api_token=key)
by_huggingface.client = InferenceClient(url, api_key=key)

print(
    json.dumps(
        {
            "openai": by_openai.embed_documents(texts),
            "openai_query": by_openai.embed_query(texts[0]),
            "huggingface": by_huggingface.embed_documents(texts),
            "huggingface_query": by_huggingface.embed_query(texts[0]),
        }
    )
)

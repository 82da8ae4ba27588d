import json
import os

from huggingface_hub import InferenceClient

url, key = os.environ["RIDGELINE_URL"], os.environ["RIDGELINE_KEY"]
texts = ["How tall is the tower?", "Une tour à Paris 🗼"]


def client(model: str) -> InferenceClient:
    """A client of one of the server's models; without /models/… it is one of the first."""
    return InferenceClient(f"{url}/models/{model}", api_key=key)


labels = ["news", "a recipe"]
embeddings = InferenceClient(url, api_key=key).feature_extraction(texts)
similarities = client("all-MiniLM-L6-v2").sentence_similarity("A tower", texts)
classes = client("nli").text_classification(texts[0])
zero_shot = client("nli").zero_shot_classification(texts[0], labels, hypothesis_template="This is {}.")
several = client("nli").zero_shot_classification(texts[0], labels, multi_label=True)
entities = client("ner").token_classification(texts[1], aggregation_strategy="simple")
answer = client("qa").question_answering(question=texts[0], context="The tower is 330 metres tall.")
fills = client("mlm").fill_mask("The tower is [MASK] tall.", top_k=3)

print(
    json.dumps(
        {
            "embeddings": embeddings.tolist(),
            "similarities": similarities,
            "classes": classes,
            "zero_shot": zero_shot,
            "several": several,
            "entities": entities,
            "answer": answer,
            "fills": fills,
        }
    )
)

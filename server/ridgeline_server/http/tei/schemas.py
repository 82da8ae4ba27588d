"""The OpenAPI components of text-embeddings-inference's routes, and of those that name no task."""

from __future__ import annotations

from typing import Any

from ridgeline_server.http.schemas import IDS, TEXT, Schema, ref


def _object(required: str, properties: Schema, **more: Any) -> Schema:
    return {"type": "object", "required": required.split(), "properties": properties, **more}


def _array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number", "format": "float"}
_STRING: Schema = {"type": "string"}
_FLAG: Schema = {"type": ["boolean", "null"], "default": False}
_TEXTS = _array(TEXT, minItems=1)
_CUTTING: Schema = {
    "truncate": {
        "type": ["boolean", "null"],
        "description": "Cut inputs that are too long, or refuse them. Absent: the server's default.",
    },
    "truncation_direction": {"enum": ["right", "Right", "left", "Left", None], "default": "right"},
}
_PROMPT: Schema = {
    "prompt_name": {
        "type": ["string", "null"],
        "description": "Name of a prompt of the model's, which goes before each text. Absent: its default prompt.",
    }
}
_IGNORES = "Unknown fields are ignored."
_LABELS = _object(
    "id2label label2id",
    {
        "id2label": {"type": "object", "additionalProperties": _STRING},
        "label2id": {"type": "object", "additionalProperties": _COUNT},
    },
)


def _kind(name: str, described: Schema) -> Schema:
    return _object(name, {name: described}, additionalProperties=False)


_MODEL_TYPE: Schema = {
    "anyOf": [
        _kind("embedding", _object("pooling", {"pooling": _STRING})),
        _kind("classifier", _LABELS),
        _kind("reranker", _LABELS),
        _kind("token-classification", {"anyOf": [_LABELS, _object("", {}, additionalProperties=False)]}),
        _kind("question-answering", _object("", {}, additionalProperties=False)),
        _kind("fill-mask", _object("", {}, additionalProperties=False)),
    ],
    "description": "A sparse embedder pools with splade. The last three are models that text-embeddings-inference "
    "does not know; POST / asks them.",
}
_PREDICT_INPUTS: Schema = {
    "description": "A text, a pair of texts that are read together, or an array of [text] and [text, text].",
    "anyOf": [
        TEXT,
        _array(TEXT, minItems=1, maxItems=2),
        _array(_array(TEXT, minItems=1, maxItems=2), minItems=1),
    ],
}
_SENTENCES = _object("source_sentence sentences", {"source_sentence": TEXT, "sentences": _TEXTS})
_PREDICTION = _object("label score", {"label": _STRING, "score": _NUMBER})

TEI_SCHEMAS: Schema = {
    "EmbedRequest": _object(
        "inputs",
        {
            "inputs": ref("Inputs"),
            "normalize": {"type": ["boolean", "null"], "default": True},
            **_CUTTING,
            **_PROMPT,
            "dimensions": {
                "type": ["integer", "null"],
                "minimum": 1,
                "description": "Keep so many of each vector's first numbers, up to the model's own.",
            },
        },
        description=_IGNORES,
        example={"inputs": ["The ridge point", "of the roofline model"]},
    ),
    "EmbedResponse": _array(_array(_NUMBER), example=[[0.0123, -0.0456, 0.0789]]),
    "EmbedAllRequest": _object(
        "inputs",
        {"inputs": ref("Inputs"), **_CUTTING, **_PROMPT},
        description=_IGNORES,
        example={"inputs": "The ridge point"},
    ),
    "EmbedAllResponse": _array(
        _array(_array(_NUMBER)),
        description="A vector for each token of each input, special tokens included.",
        example=[[[0.0123, -0.0456], [0.0789, 0.0012]]],
    ),
    "EmbedSparseRequest": _object(
        "inputs",
        {"inputs": ref("Inputs"), **_CUTTING, **_PROMPT},
        description=_IGNORES,
        example={"inputs": "The ridge point"},
    ),
    "EmbedSparseResponse": _array(
        _array(_object("index value", {"index": _COUNT, "value": _NUMBER})),
        description="Token ids and their weights, those of weight 0 left out.",
        example=[[{"index": 1996, "value": 0.81}, {"index": 9230, "value": 1.94}]],
    ),
    "SimilarityRequest": _object(
        "inputs",
        {
            "inputs": _SENTENCES,
            "parameters": _object("", {**_CUTTING, **_PROMPT}) | {"type": ["object", "null"]},
        },
        description=_IGNORES,
        example={"inputs": {"source_sentence": "A ridge", "sentences": ["A crest of a hill", "A letter"]}},
    ),
    "SimilarityResponse": _array(_NUMBER, description="Cosines, one for each sentence.", example=[0.71, 0.08]),
    "PredictRequest": _object(
        "inputs",
        {
            "inputs": _PREDICT_INPUTS,
            **_CUTTING,
            "raw_scores": {**_FLAG, "description": "Logits instead of probabilities."},
        },
        description=_IGNORES,
        example={"inputs": "I like this very much."},
    ),
    "PredictResponse": {
        "description": "Of one input its classes, the likeliest first; of an array an array of such.",
        "anyOf": [_array(_PREDICTION), _array(_array(_PREDICTION))],
        "example": [{"label": "POSITIVE", "score": 0.98}, {"label": "NEGATIVE", "score": 0.02}],
    },
    "TeiRerankRequest": _object(
        "query texts",
        {
            "query": TEXT,
            "texts": _TEXTS,
            **_CUTTING,
            "raw_scores": {**_FLAG, "description": "Logits instead of numbers from 0 to 1."},
            "return_text": _FLAG,
        },
        description=_IGNORES,
        example={"query": "What makes bread rise?", "texts": ["Yeast lets dough rise.", "Bread is sold here."]},
    ),
    "TeiRerankResponse": _array(
        _object("index score", {"index": _COUNT, "score": _NUMBER, "text": _STRING}),
        description="The best first.",
        example=[{"index": 0, "score": 0.93}, {"index": 1, "score": 0.04}],
    ),
    "TokenizeRequest": _object(
        "inputs",
        {
            "inputs": {"anyOf": [TEXT, _TEXTS]},
            "add_special_tokens": {"type": ["boolean", "null"], "default": True},
            **_PROMPT,
        },
        description=_IGNORES,
        example={"inputs": "The ridge point"},
    ),
    "TokenizeResponse": _array(
        _array(
            _object(
                "id text special start stop",
                {
                    "id": _COUNT,
                    "text": {"type": "string", "description": "What of the text it is; a special token's own name."},
                    "special": {"type": "boolean"},
                    "start": {
                        "type": ["integer", "null"],
                        "description": "Index of its first character, Unicode code points, the prompt included. null "
                        "of special tokens.",
                    },
                    "stop": {"type": ["integer", "null"], "description": "Likewise, one past its last."},
                },
            )
        ),
        description="The tokens of each text, none cut off.",
        example=[
            [
                {"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None},
                {"id": 9230, "text": "ridge", "special": False, "start": 0, "stop": 5},
                {"id": 102, "text": "[SEP]", "special": True, "start": None, "stop": None},
            ]
        ],
    ),
    "DecodeRequest": _object(
        "ids",
        {
            "ids": {"anyOf": [IDS, _array(IDS, minItems=1)]},
            "skip_special_tokens": {"type": ["boolean", "null"], "default": True},
        },
        description=_IGNORES,
        example={"ids": [101, 9230, 102]},
    ),
    "DecodeResponse": _array(_STRING, description="A text for each array of ids.", example=["ridge"]),
    "PipelineRequest": {
        "anyOf": [
            _object(
                "inputs",
                {
                    "inputs": {
                        "description": "What the model's task takes: see POST /tasks/{task}, or the route of "
                        "text-embeddings-inference that fits the model."
                    },
                    "parameters": {
                        "type": ["object", "null"],
                        "description": "Those of the task, or `candidate_labels` for zero-shot classification. Where "
                        "it is given, answers have the form that huggingface_hub's InferenceClient reads.",
                    },
                },
            ),
            _object("query texts", {"query": TEXT, "texts": _TEXTS, "inputs": False}),
        ],
        "description": "Of a reranker as of its route. Unknown fields are ignored.",
        "example": {"inputs": "The ridge point of the roofline model"},
    },
    "PipelineResponse": {
        "description": "What the model's task answers, without an envelope: one input's answer by itself, an array's "
        "in an array.",
        "anyOf": [{"type": "array"}, {"type": "object"}],
        "example": [[0.0123, -0.0456, 0.0789]],
    },
    "Info": _object(
        "model_id model_sha model_dtype model_type max_concurrent_requests max_input_length max_batch_tokens "
        "max_batch_requests max_client_batch_size auto_truncate tokenization_workers version sha docker_label",
        {
            "model_id": _STRING,
            "model_sha": {"type": ["string", "null"]},
            "model_dtype": _STRING,
            "model_type": _MODEL_TYPE,
            "max_concurrent_requests": _COUNT,
            "max_input_length": _COUNT,
            "max_batch_tokens": _COUNT,
            "max_batch_requests": {"type": ["integer", "null"]},
            "max_client_batch_size": _COUNT,
            "auto_truncate": {"type": "boolean"},
            "tokenization_workers": _COUNT,
            "version": _STRING,
            "sha": {"type": ["string", "null"]},
            "docker_label": {"type": ["string", "null"]},
        },
    ),
    "TeiError": _object(
        "error error_type",
        {
            "error": _STRING,
            "error_type": {"enum": ["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]},
        },
    ),
}

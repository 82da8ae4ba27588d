// What the box asks for each task, and how it shows the answer.
//
// button: what the button says
// fields: what is asked for: {name, label, value: what stands there first, of the model; rows, isOptional, isCheck}
// body:   what is typed, by name → `inputs` and `parameters` of /tasks/{task}
// show:   the answers, what is typed, the model's name → what is shown above the figures
// facts:  the answers → [name, value, beside] of further figures

import { element } from "./dom.js";
import { bars, lines, marked, note } from "./trial_views.js";

const MOST_CLASSES = 10;
const MOST_WORDS = 5;

const field = (name, label, value, more = {}) => ({ name, label, value: () => value, rows: 3, ...more });
const SENTENCES = "The railway goes up the mountain in wet weather.\nBread is sold here.\nRain delays the mountain train.";

// A model that can do several is offered the first of them first.
export const TRIALS = {
  "feature-extraction": {
    title: "Embed and compare",
    button: "Embed",
    fields: [
      field("first", "Text", "A train climbs the ridge in the rain."),
      field("second", "Second text, to compare", "The railway goes up the mountain in wet weather.", { isOptional: true }),
    ],
    body: ({ first, second }) => ({ inputs: [first, second].filter((text) => text.trim()) }),
    facts: (vectors) => [
      ...(vectors.length === 2 ? [["Cosine similarity", cosine(...vectors).toFixed(3), "1 = the same direction"]] : []),
      ["Embedding", `${vectors[0].length} numbers`, `[${vectors[0].slice(0, 3).map((each) => each.toFixed(3)).join(", ")}, …]`],
    ],
  },
  "sentence-similarity": {
    title: "Compare with several",
    button: "Compare",
    fields: [field("source", "Sentence", "A train climbs the ridge in the rain."), field("sentences", "Sentences to compare, one a line", SENTENCES)],
    body: ({ source, sentences }) => ({ inputs: { source_sentence: source, sentences: lines(sentences) } }),
    show: ([scores], { sentences }) => [bars(lines(sentences).map((text, place) => [text, scores[place]]).sort(([, a], [, b]) => b - a))],
  },
  "sparse-embeddings": {
    title: "The terms of a text",
    button: "Embed",
    fields: [field("text", "Text", "A train climbs the ridge in the rain.")],
    body: ({ text }) => ({ inputs: [text], parameters: { top: MOST_CLASSES } }),
    show: async ([terms], _, model) => {
      const words = await decode(model, terms.map((term) => [term.index]));
      return [bars(terms.map((term, place) => [words[place].trim() || `token ${term.index}`, term.value]).sort(([, a], [, b]) => b - a))];
    },
  },
  "zero-shot-classification": {
    title: "Labels of your own",
    button: "Classify",
    fields: [
      field("text", "Text", "The parcel came two weeks late."),
      field("labels", "Labels, one a line", "delivery\nprice\nquality"),
      field("several", "Several can be true", false, { isCheck: true }),
    ],
    body: ({ text, labels, several }) => ({ inputs: [text], parameters: { candidate_labels: lines(labels), multi_label: several } }),
    show: ([answer]) => [bars(answer.labels.map((label, place) => [label, answer.scores[place]]))],
  },
  "text-ranking": {
    title: "Rank texts for a query",
    button: "Rank",
    fields: [
      field("query", "Query", "What makes bread rise?"),
      field("texts", "Texts, one a line", "Bread is sold here.\nYeast lets dough rise.\nThe train is late."),
    ],
    body: ({ query, texts }) => ({ inputs: { query, texts: lines(texts) } }),
    show: ([ranks], { texts }) => [bars(ranks.map((rank) => [lines(texts)[rank.index], rank.score]))],
  },
  "text-classification": {
    title: "Classify",
    button: "Classify",
    fields: [
      field("text", "Text", "Return a new event loop."),
      field("second", "Second text, for models of pairs", "", { isOptional: true }),
    ],
    body: ({ text, second }) => ({ inputs: [second.trim() ? [text, second] : text], parameters: { top_k: MOST_CLASSES } }),
    show: ([classes]) => [bars(classes.map((each) => [each.label, each.score]))],
  },
  "token-classification": {
    title: "Find entities",
    button: "Find",
    fields: [field("text", "Text", "Ada Lovelace was born in London and worked with Charles Babbage.", { rows: 4, isWide: true })],
    body: ({ text }) => ({ inputs: [text] }),
    show: ([entities], { text }) => [
      marked(text, entities.map(({ start, end, entity_group: label }) => ({ start, end, label }))),
      ...(entities.length ? [] : [note("No entity was found.")]),
    ],
  },
  "question-answering": {
    title: "Answer from a text",
    button: "Answer",
    fields: [
      field("question", "Question", "Where was Ada Lovelace born?"),
      field("context", "Text that answers it", "Ada Lovelace was born in London and wrote the first program.", { rows: 4 }),
    ],
    body: ({ question, context }) => ({ inputs: { question, context }, parameters: { top_k: 3 } }),
    show: ([answers], { context }) => [marked(context, answers.slice(0, 1)), bars(answers.map((each) => [each.answer, each.score]))],
  },
  "fill-mask": {
    title: "Fill in words",
    button: "Fill in",
    fields: [
      { ...field("text", "Text with a mask"), value: (model) => `Paris is the ${model.mask_token} of France.`, isWide: true, hint: (model) => `${model.mask_token} stands where a word is to be found` },
    ],
    body: ({ text }) => ({ inputs: [text], parameters: { top_k: MOST_WORDS } }),
    show: ([filled]) => {
      const masks = Array.isArray(filled[0]) ? filled : [filled];
      return masks.flatMap((words, place) => [
        ...(masks.length > 1 ? [element("h3", "", `Mask ${place + 1}`)] : []),
        bars(words.map((each) => [each.token_str, each.score])),
      ]);
    },
  },
};

// The words of token ids, of a model's own tokenizer.
async function decode(model, ids) {
  const path = model.split("/").map(encodeURIComponent).join("/");
  const response = await fetch(`/models/${path}/decode`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ids, skip_special_tokens: false }),
  });
  return response.ok && ids.length ? response.json() : ids.map(([id]) => `token ${id}`);
}

function cosine(a, b) {
  const dot = (u, v) => u.reduce((sum, value, place) => sum + value * v[place], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

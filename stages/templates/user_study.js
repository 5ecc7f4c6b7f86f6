"use strict";
const byId = (id) => document.getElementById(id);
const { study, questions } = JSON.parse(byId("data").textContent);
const audio = byId("sound");
const STORE = `user-study-${study}`;
const PROMPTS = {
  recall: "Which pictures show what you hear? Choose one, both or none.",
  precision: "Which picture shows what you hear?",
  ranking: "Rank the pictures by how well they go with what you hear: the best first.",
  preference: "Which picture follows what you hear best?",
  realism: "How real does this picture look, from 1, not at all, to 5, like a photograph?",
};

const randomBelow = (n) => {
  const limit = Math.floor(2 ** 32 / n) * n; // so that no value is drawn more often
  const draw = new Uint32Array(1);
  do crypto.getRandomValues(draw);
  while (draw[0] >= limit);
  return draw[0] % n;
};
const shuffled = (list) => {
  const result = [...list];
  for (let i = result.length - 1; i > 0; i--) {
    const j = randomBelow(i + 1);
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
};

// Each person sees questions and pictures in an order of their own; a reload goes on where it was.
const fresh = () => ({
  participant: Array.from({ length: 12 }, () => "0123456789abcdef"[randomBelow(16)]).join(""),
  order: shuffled(questions.map((_, i) => i)),
  shown: Object.fromEntries(
    questions.map((q) => {
      const ids = q.options.map((option) => option.id);
      return [q.id, q.picture ? ids : shuffled(ids)]; // grades stand in their order
    }),
  ),
  answers: {},
  at: -1,
});
let state;
try {
  state = JSON.parse(localStorage.getItem(STORE)) ?? fresh();
} catch {
  state = fresh(); // storage is closed to this page
}
const keep = () => {
  try {
    localStorage.setItem(STORE, JSON.stringify(state));
  } catch {
    // then a reload starts again
  }
};

let chosen = new Set(); // in the order in which they were chosen
let ranking = false;
let none = false;
let heard = false;
let since = 0;

const refresh = () => {
  for (const button of byId("options").children) {
    button.setAttribute("aria-pressed", chosen.has(button.dataset.id));
    const place = [...chosen].indexOf(button.dataset.id) + 1;
    button.dataset.place = ranking && place ? place : "";
    button.disabled = !heard;
  }
  byId("none").setAttribute("aria-pressed", none);
  byId("none").disabled = !heard;
  const all = byId("options").children.length;
  byId("next").disabled = !heard || (ranking ? chosen.size < all : chosen.size === 0 && !none);
  byId("hint").textContent = heard ? "" : "Listen to the sound first.";
  byId("play").classList.toggle("waiting", !heard && audio.paused);
};

const choose = (id, many) => {
  const was = chosen.has(id);
  if (!many) chosen.clear();
  if (was) chosen.delete(id);
  else chosen.add(id);
  none = false;
  refresh();
};

const show = () => {
  const { at } = state;
  byId("start").hidden = at >= 0;
  byId("ask").hidden = at < 0 || at >= questions.length;
  byId("end").hidden = at < questions.length;
  byId("place").hidden = at < 0 || at >= questions.length;
  const done = Math.max(0, Math.min(at, questions.length));
  byId("bar").setAttribute("aria-valuenow", done);
  byId("bar").firstElementChild.style.width = `${(100 * done) / questions.length}%`;
  audio.pause();
  if (byId("ask").hidden) return;
  const question = questions[state.order[at]];
  ranking = question.protocol === "ranking";
  const many = question.protocol === "recall" || ranking;
  const before = state.answers[question.id];
  chosen = new Set(before?.chosen);
  none = before !== undefined && before.chosen.length === 0;
  heard = before !== undefined || !question.sound;
  since = performance.now();
  const asked = questions.every((q) => q.sound) ? "Sound" : "Question";
  byId("place").textContent = `${asked} ${at + 1} of ${questions.length}`;
  byId("prompt").textContent = PROMPTS[question.protocol];
  byId("back").disabled = at === 0;
  byId("none").hidden = question.protocol !== "recall";
  byId("content").hidden = !question.content;
  if (question.content) byId("content").querySelector("img").src = question.content;
  byId("picture").hidden = !question.picture;
  if (question.picture) byId("picture").src = question.picture;
  byId("play").hidden = !question.sound;
  byId("options").classList.toggle("ranking", ranking);
  byId("options").classList.toggle("scale", Boolean(question.picture));
  byId("time").textContent = "play";
  byId("play").querySelector("i").style.width = 0;
  if (question.sound) audio.src = question.sound;
  else audio.removeAttribute("src");
  byId("options").classList.toggle("four", question.options.length > 2 && !question.picture);
  byId("options").replaceChildren(
    ...state.shown[question.id].map((id, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.id = id;
      if (question.picture) {
        button.append(id);
      } else {
        const image = new Image();
        image.src = question.options.find((option) => option.id === id).src;
        image.alt = `Picture ${place + 1}`;
        image.draggable = false;
        button.append(image);
      }
      button.addEventListener("click", () => choose(id, many));
      return button;
    }),
  );
  refresh();
  window.scrollTo(0, 0);
  byId("prompt").focus({ preventScroll: true });
};

const move = (step) => {
  state.at += step;
  keep();
  show();
};

byId("begin").addEventListener("click", () => move(1));
byId("back").addEventListener("click", () => move(-1));
byId("none").addEventListener("click", () => {
  chosen.clear();
  none = !none;
  refresh();
});
byId("next").addEventListener("click", () => {
  const { id } = questions[state.order[state.at]];
  const seconds = (state.answers[id]?.seconds ?? 0) + (performance.now() - since) / 1000;
  const picked = ranking ? [...chosen] : [...chosen].sort();
  state.answers[id] = { chosen: picked, seconds: Math.round(10 * seconds) / 10 };
  move(1);
});

byId("play").addEventListener("click", () => (audio.paused ? audio.play() : audio.pause()));
for (const event of ["play", "pause", "ended"]) {
  audio.addEventListener(event, () => {
    byId("play").classList.toggle("playing", !audio.paused);
    byId("play").setAttribute("aria-label", audio.paused ? "Play the sound" : "Pause the sound");
    refresh();
  });
}
audio.addEventListener("timeupdate", () => {
  if (!audio.duration) return;
  byId("play").querySelector("i").style.width = `${(100 * audio.currentTime) / audio.duration}%`;
  byId("time").textContent = `${Math.ceil(audio.duration - audio.currentTime)} s`;
  if (!heard && audio.currentTime >= Math.min(1, audio.duration / 2)) {
    heard = true;
    refresh();
  }
});
audio.addEventListener("error", () => {
  byId("hint").textContent = "This browser cannot play the sound. Please try another browser.";
});

const answered = () =>
  state.order
    .map((i) => questions[i].id)
    .filter((id) => id in state.answers)
    .map((id) => ({ question: id, shown: state.shown[id], ...state.answers[id] }));
const asJson = () =>
  JSON.stringify({ study, participant: state.participant, answers: answered() }, null, 1);
const asCsv = () =>
  [
    "study,participant,question,chosen,shown,seconds",
    ...answered().map((a) =>
      [study, state.participant, a.question, a.chosen.join(" "), a.shown.join(" "), a.seconds].join(),
    ),
  ].join("\r\n") + "\r\n";
const save = (text, type, suffix) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = `answers-${study}-${state.participant}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  byId("saved").textContent = `Saved as ${link.download}`;
};
byId("json").addEventListener("click", () => save(asJson(), "application/json", "json"));
byId("csv").addEventListener("click", () => save(asCsv(), "text/csv", "csv"));
byId("copy").addEventListener("click", () =>
  navigator.clipboard.writeText(asJson()).then(
    () => (byId("saved").textContent = "Copied. Paste it into a message."),
    () => (byId("saved").textContent = "Copying is not allowed here; please save the file."),
  ),
);
show();

"use strict";
// Without this script the browser's own players work; with it, sound, marks and frames move together.
for (const card of document.querySelectorAll(".card")) {
  const audio = card.querySelector("audio");
  const sound = card.querySelector(".sound");
  if (!audio || !sound) continue;
  const duration = Number(sound.dataset.duration);
  const scope = card.querySelector(".scope");
  const head = card.querySelector(".head");
  const frames = [...card.querySelectorAll(".strip li")];
  const button = document.createElement("button");
  button.type = "button";
  button.className = "play";
  button.setAttribute("aria-label", "play");
  scope.append(button);
  audio.controls = false;

  const draw = () => {
    const now = audio.currentTime;
    head.hidden = now === 0;
    head.style.left = `${(100 * now) / duration}%`;
    const near = frames.reduce(
      (best, frame) =>
        Math.abs(frame.dataset.t - now) < Math.abs(best.dataset.t - now) ? frame : best,
      frames[0],
    );
    for (const frame of frames) frame.classList.toggle("now", !audio.paused && frame === near);
    if (!audio.paused) requestAnimationFrame(draw);
  };
  const seek = (seconds) => {
    audio.currentTime = seconds;
    audio.play();
  };
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    audio.paused ? audio.play() : audio.pause();
  });
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    card.classList.add("playing");
    draw();
  });
  audio.addEventListener("pause", () => {
    card.classList.remove("playing");
    draw();
  });
  scope.addEventListener("click", (event) => {
    const box = scope.getBoundingClientRect();
    seek((duration * (event.clientX - box.left)) / box.width);
  });
  for (const frame of frames) frame.addEventListener("click", () => seek(Number(frame.dataset.t)));
}

"use strict";
// Says on an open page that something new was written. Reconnects with a growing pause.
(function () {
  let pause = 1000;
  function connect() {
    const socket = new WebSocket("wss://" + location.host + "/staff/live");
    socket.onopen = function () { pause = 1000; document.documentElement.dataset.live = "open"; };
    socket.onmessage = function (message) {
      const news = JSON.parse(message.data);
      if (document.getElementById(news.id)) { return; }
      let bar = document.querySelector(".live");
      if (!bar) {
        bar = document.createElement("p");
        bar.className = "live";
        bar.setAttribute("role", "status");
        const link = document.createElement("a");
        link.textContent = "新しい記録があります。表示する";
        bar.append(link);
        document.body.append(bar);
      }
      bar.dataset.noteId = news.id;
      bar.firstChild.href = "/staff/persons/" + encodeURIComponent(news.person) + "?" + Date.now() + "#" + news.id;
    };
    socket.onclose = function () {
      document.documentElement.dataset.live = "closed";
      setTimeout(connect, pause);
      pause = Math.min(pause * 2, 60000);
    };
  }
  connect();
})();

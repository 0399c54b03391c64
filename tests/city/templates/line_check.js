"use strict";
(function () {
  const list = document.getElementById("ticks");
  const source = new EventSource(list.dataset.stream);
  source.addEventListener("tick", function (event) {
    const item = document.createElement("li");
    item.textContent = "合図 " + event.data + " が届きました";
    list.append(item);
  });
  source.addEventListener("end", function () { source.close(); });
})();

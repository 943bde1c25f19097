// Loaded as a classic script: of a page that is opened as a file, a browser loads no modules, and this says so.
if (location.protocol === "file:") {
  const status = document.getElementById("status");
  status.textContent = "This page was opened as a file, and browsers load no modules and no models from files. " +
    "Open it through a web server: edgecnn demo-page --serve, or any static one.";
  status.classList.add("bad");
}

// Shows the OpenAPI document with forms that send requests to this server. Keys stay in the page.
window.addEventListener("load", () => {
  window.SwaggerUIBundle({
    url: "../openapi.yaml",
    dom_id: "#api",
    deepLinking: true,
    docExpansion: "none",
    defaultModelsExpandDepth: 0,
    filter: true,
    persistAuthorization: false,
    validatorUrl: null,
  });
});

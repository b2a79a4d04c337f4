{{/*
An expression that names the fields of an object that its schema does not have, as text; empty if there
are none. It takes the schema, the expression that leads to the object and the depth (for the names of
variables), and the path as text; it adds a line for each object to the list `found`.

Where the API server keeps unknown fields, every object is one with `properties`; what has
`additionalProperties` has names of the user's choice.
*/}}
{{- define "whygate.unknown" -}}
{{- $schema := .schema -}}
{{- if eq (toString $schema.type) "array" -}}
{{- /* One step into a list: whatever is asked of an entry is asked of each. */ -}}
{{- $entry := printf "v%d" .depth -}}
{{- $open := printf "%s%s.map(%s, " .open .at $entry -}}
{{- $close := printf ").filter(s, s != '').join(', ')%s" .close -}}
{{- include "whygate.unknown" (dict "schema" $schema.items "at" $entry "depth" (add1 .depth | int) "path" (printf "%s[]" .path) "open" $open "close" $close "found" .found) -}}
{{- else if $schema.properties -}}
{{- $names := keys $schema.properties | sortAlpha -}}
{{- $known := printf "'%s'" (join "', '" $names) -}}
{{- $expression := printf "%s%s.filter(k, !(k in [%s])).join(', ')%s" .open .at $known .close -}}
{{- $_ := set .found "list" (append .found.list (dict "path" .path "known" (join ", " $names) "expression" $expression)) -}}
{{- range $name := $names -}}
{{- $part := index $schema.properties $name -}}
{{- if or $part.properties (and (eq (toString $part.type) "array") $part.items.properties) -}}
{{- $at := printf "%s.%s" $.at $name -}}
{{- include "whygate.unknown" (dict "schema" $part "at" $at "depth" $.depth "path" (printf "%s.%s" $.path $name) "open" (printf "%s(!has(%s) ? '' : " $.open $at) "close" (printf ")%s" $.close) "found" $.found) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

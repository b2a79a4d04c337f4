{{/* What the schema cannot say: values that contradict each other. One sentence each, with the remedy. */}}
{{- define "whygate.validate" -}}
{{- $v := .Values -}}
{{- $problems := list -}}
{{- if and (not $v.listen.http) (not $v.listen.https) -}}
{{- $problems = append $problems "listen.http and listen.https are both 0, so nothing would be served; open one" -}}
{{- end -}}
{{- $ports := without (list ($v.listen.http | int) ($v.listen.https | int) ($v.listen.admin | int)) 0 -}}
{{- if ne (len $ports) (len (uniq $ports)) -}}
{{- $problems = append $problems "two of listen.http, listen.https and listen.admin are the same port; give each its own" -}}
{{- end -}}
{{- range list "http" "https" -}}
{{- if and (index $v.hostPorts .) (not (index $v.listen .)) -}}
{{- $problems = append $problems (printf "hostPorts.%s is set but listen.%s is 0; open the listener, too" . .) -}}
{{- end -}}
{{- if and $v.hostNetwork (index $v.hostPorts .) (ne (index $v.hostPorts . | int) (index $v.listen . | int)) -}}
{{- $problems = append $problems (printf "hostPorts.%s differs from listen.%s, which hostNetwork forbids; leave hostPorts at 0, listen.%s is the port of the node" . . .) -}}
{{- end -}}
{{- end -}}
{{- if and (ne $v.clientAddress.source "peer") (not $v.clientAddress.trustedProxies) -}}
{{- $problems = append $problems (printf "clientAddress.source is %s but nobody is trusted to say it; set clientAddress.trustedProxies to the networks of your proxies" $v.clientAddress.source) -}}
{{- end -}}
{{- if and (eq $v.clientAddress.source "peer") $v.clientAddress.trustedProxies -}}
{{- $problems = append $problems "clientAddress.trustedProxies has no effect with clientAddress.source peer; say what they send: proxy-protocol or header:NAME" -}}
{{- end -}}
{{- if and $v.externalNames.cidrs (not $v.externalNames.allow) -}}
{{- $problems = append $problems "externalNames.cidrs has no effect without externalNames.allow; set it to true" -}}
{{- end -}}
{{- if and (eq $v.rbac.scope "namespaces") (not $v.watchNamespaces) -}}
{{- $problems = append $problems "rbac.scope namespaces needs watchNamespaces: without a ClusterRole only named namespaces can be read" -}}
{{- end -}}
{{- if and (eq $v.secrets.scope "cluster") $v.secrets.namespaces -}}
{{- $problems = append $problems "secrets.namespaces has no effect with secrets.scope cluster; set secrets.scope to namespaces" -}}
{{- end -}}
{{- if and (ne $v.configMaps.scope "namespaces") $v.configMaps.namespaces -}}
{{- $problems = append $problems (printf "configMaps.namespaces has no effect with configMaps.scope %s; set configMaps.scope to namespaces" $v.configMaps.scope) -}}
{{- end -}}
{{- if and (eq $v.configMaps.scope "namespaces") (not $v.configMaps.namespaces) -}}
{{- $problems = append $problems "configMaps.scope namespaces names none; set configMaps.namespaces, or the scope to none" -}}
{{- end -}}
{{- if $v.watchNamespaces -}}
{{- range $v.configMaps.namespaces -}}
{{- if not (has . $v.watchNamespaces) -}}
{{- $problems = append $problems (printf "configMaps.namespaces names %s, which watchNamespaces does not; add it there" .) -}}
{{- end -}}
{{- end -}}
{{- range $v.secrets.namespaces -}}
{{- if not (has . $v.watchNamespaces) -}}
{{- $problems = append $problems (printf "secrets.namespaces names %s, which watchNamespaces does not; add it there" .) -}}
{{- end -}}
{{- end -}}
{{- if not (has (include "whygate.testNamespace" .) $v.watchNamespaces) -}}
{{- $problems = append $problems (printf "test.namespace %s is not in watchNamespaces, so its Ingress would never be served; name one that is" $v.test.namespace) -}}
{{- end -}}
{{- end -}}
{{- /* Only where there is a cluster to look at, and where we may: `helm template` finds nothing here. */ -}}
{{- if include "whygate.clusterScope" . -}}
{{- $us := printf "%s/%s" .Release.Namespace .Release.Name -}}
{{- range (lookup "networking.k8s.io/v1" "IngressClass" "" "").items -}}
{{- $annotations := .metadata.annotations | default dict -}}
{{- $release := printf "%s/%s" (get $annotations "meta.helm.sh/release-namespace") (get $annotations "meta.helm.sh/release-name") -}}
{{- $whygate := eq (dig "metadata" "labels" "app.kubernetes.io/part-of" "" .) "whygate" -}}
{{- if and (eq .metadata.name $v.ingressClass.name) (ne .spec.controller $v.controllerName) -}}
{{- $problems = append $problems (printf "IngressClass %s is that of controller %s, and nobody can change that; choose another ingressClass.name, or delete the class if nothing uses it" .metadata.name .spec.controller) -}}
{{- else if and (eq .spec.controller $v.controllerName) $whygate (ne $release "/") (ne $release $us) -}}
{{- $problems = append $problems (printf "release %s serves IngressClass %s with the controllerName %s already; give this release an ingressClass.name and a controllerName of its own" $release .metadata.name .spec.controller) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $readable := include "whygate.secretNamespaces" . -}}
{{- if and $v.defaultTlsSecret $readable -}}
{{- if not (has (splitList "/" $v.defaultTlsSecret | first) (fromJsonArray $readable)) -}}
{{- $problems = append $problems (printf "defaultTlsSecret %s is in a namespace whose Secrets are not read; add the namespace to watchNamespaces or secrets.namespaces" $v.defaultTlsSecret) -}}
{{- end -}}
{{- end -}}
{{- if $v.autoscaling.enabled -}}
{{- if eq $v.kind "DaemonSet" -}}
{{- $problems = append $problems "autoscaling does not work with kind DaemonSet, which has one pod a node; use kind Deployment" -}}
{{- end -}}
{{- if gt ($v.autoscaling.minReplicas | int) ($v.autoscaling.maxReplicas | int) -}}
{{- $problems = append $problems "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and (not $v.autoscaling.cpuPercent) (not $v.autoscaling.memoryPercent) -}}
{{- $problems = append $problems "autoscaling has nothing to go by; set autoscaling.cpuPercent or autoscaling.memoryPercent" -}}
{{- end -}}
{{- range $resource, $percent := dict "cpu" $v.autoscaling.cpuPercent "memory" $v.autoscaling.memoryPercent -}}
{{- if and $percent (not (dig "requests" $resource "" $v.resources)) -}}
{{- $problems = append $problems (printf "autoscaling.%sPercent is a share of the request; set resources.requests.%s" $resource $resource) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.metrics.serviceMonitor.enabled (not $v.metrics.service) -}}
{{- $problems = append $problems "metrics.serviceMonitor needs metrics.service; switch it on" -}}
{{- end -}}
{{- $surge := include "whygate.maxSurge" . -}}
{{- $missing := include "whygate.maxUnavailable" . -}}
{{- if and (has $surge (list "0" "0%")) (has $missing (list "0" "0%")) -}}
{{- $problems = append $problems "rollout.maxSurge and rollout.maxUnavailable are both 0, so no update could ever begin; allow one" -}}
{{- end -}}
{{- if and (eq $v.kind "DaemonSet") (not (has $surge (list "0" "0%"))) (or $v.hostNetwork $v.hostPorts.http $v.hostPorts.https) -}}
{{- $problems = append $problems "rollout.maxSurge cannot work on a DaemonSet that holds ports of its nodes; leave it empty" -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n%s" (join "\n" $problems)) -}}
{{- end -}}
{{- end -}}

{{/* Pods beyond the wanted number, as text. */}}
{{- define "whygate.maxSurge" -}}
{{- $held := and (eq .Values.kind "DaemonSet") (or .Values.hostNetwork .Values.hostPorts.http .Values.hostPorts.https) -}}
{{- $given := toString .Values.rollout.maxSurge -}}
{{- if ne $given "" }}{{ $given }}{{ else if $held }}0{{ else }}1{{ end -}}
{{- end -}}

{{/* Pods that may be missing, as text. */}}
{{- define "whygate.maxUnavailable" -}}
{{- $held := and (eq .Values.kind "DaemonSet") (or .Values.hostNetwork .Values.hostPorts.http .Values.hostPorts.https) -}}
{{- $given := toString .Values.rollout.maxUnavailable -}}
{{- if ne $given "" }}{{ $given }}{{ else if $held }}1{{ else }}0{{ end -}}
{{- end -}}

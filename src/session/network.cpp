#include "session/network.h"

namespace cfr {

// An instance of our own: the process-wide one reports on the main context of whoever asked for it
// first, which may not be running.
static GNetworkMonitor* make_monitor() {
  g_network_monitor_get_default();  // registers the extensions
  GIOExtensionPoint* point = g_io_extension_point_lookup(G_NETWORK_MONITOR_EXTENSION_POINT_NAME);
  if (!point) return nullptr;
  for (GList* item = g_io_extension_point_get_extensions(point); item; item = item->next) {
    auto* extension = static_cast<GIOExtension*>(item->data);
    // Others talk to a daemon over D-Bus, or know nothing.
    if (g_strcmp0(g_io_extension_get_name(extension), "netlink") != 0) continue;
    gpointer monitor =
        g_initable_new(g_io_extension_get_type(extension), nullptr, nullptr, nullptr);
    if (monitor) return G_NETWORK_MONITOR(monitor);
  }
  return nullptr;
}

Network::Network(std::function<void(bool)> changed)
    : changed_(std::move(changed)), monitor_(gref<GNetworkMonitor>::adopt(make_monitor())) {
  if (!monitor_) return;
  handler_ = g_signal_connect(monitor_.get(), "network-changed",
                              G_CALLBACK(+[](GNetworkMonitor*, gboolean available, Network* self) {
                                self->changed_(available);
                              }),
                              this);
}

Network::~Network() {
  if (handler_) g_signal_handler_disconnect(monitor_.get(), handler_);
}

}  // namespace cfr

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

// A socket can be bound to no other address.
bool Network::has_address(const std::string& ip) {
  auto address = gref<GInetAddress>::adopt(g_inet_address_new_from_string(ip.c_str()));
  // A link-local one needs its interface as well.
  if (!address || g_inet_address_get_is_link_local(address.get())) return true;
  auto socket =
      gref<GSocket>::adopt(g_socket_new(g_inet_address_get_family(address.get()),
                                        G_SOCKET_TYPE_DATAGRAM, G_SOCKET_PROTOCOL_UDP, nullptr));
  auto any_port = gref<GSocketAddress>::adopt(g_inet_socket_address_new(address.get(), 0));
  return !socket || g_socket_bind(socket.get(), any_port.get(), FALSE, nullptr);
}

}  // namespace cfr

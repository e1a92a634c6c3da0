// webrtcbin's action signals that answer through a GstPromise, with the answer on the worker. Bound
// to the worker.
#pragma once

#include <gst/gst.h>

#include <functional>
#include <memory>
#include <string>

#include "rtc/mailbox.h"

namespace cfr {

struct WebrtcReply {
  bool ok = false;
  std::string error;                        // webrtcbin's own words
  std::string sdp;                          // of create-offer, create-answer
  std::shared_ptr<GstStructure> structure;  // of get-stats
};
// Destroyed on another thread if the reply never reaches the worker: capture only weak things.
using OnWebrtcReply = std::function<void(const WebrtcReply&)>;

void webrtc_create(GstElement* webrtcbin, bool offer, std::shared_ptr<Mailbox> mail,
                   OnWebrtcReply on_reply);
// `sdp` that GStreamer cannot parse gives an error at once.
void webrtc_set(GstElement* webrtcbin, bool local, bool offer, const std::string& sdp,
                std::shared_ptr<Mailbox> mail, OnWebrtcReply on_reply);
void webrtc_stats(GstElement* webrtcbin, std::shared_ptr<Mailbox> mail, OnWebrtcReply on_reply);

}  // namespace cfr

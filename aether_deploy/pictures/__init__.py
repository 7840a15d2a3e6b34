"""Pictures, folders and videos through a network: read, cut into tiles, run, joined and written.

upscale_any                     one call for all of them
images, deep_images, metadata   files <-> pixels
sizes, quality                  resized, mirrored; PSNR and SSIM
tiling, edge_reach, upscaling   any size with bounded memory
batch_run, folder_record        folders
video, video_colour             videos
video_survey                    what is wrong with a video, said before anything is upscaled
parts_folder, video_parts       what a killed run has finished
overlapped                      reading, inference and writing at once
"""
